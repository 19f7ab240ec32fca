"""The rails: the only code that talks to outside money."""
