"""The documents that users type, translated to commands and back."""
