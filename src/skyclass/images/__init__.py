"""Images: files become arrays, and arrays the pixels that a network sees."""
