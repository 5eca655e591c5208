"""The four analyses of the original project, with controls."""
