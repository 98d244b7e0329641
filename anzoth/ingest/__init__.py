"""What do the bytes of a file say, and into which passages is that cut?"""
