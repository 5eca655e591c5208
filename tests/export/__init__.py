"""Exports: forms that do what the arm did, and folders that hold nothing of this machine."""
