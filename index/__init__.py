"""The retriever process (knowledge bases). Empty until that feature lands."""
