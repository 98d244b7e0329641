"""The arithmetic under the models. Imports nothing of ours."""
