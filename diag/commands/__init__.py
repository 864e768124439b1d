"""The commands of `bbdiag`, one a file: each module offers `command`."""
