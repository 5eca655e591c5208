"""Every sentence that the package writes or asks, as YAML, and its reader."""
