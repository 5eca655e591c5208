"""The site, the tutorial and the page about figures."""
