"""`make bench`: what a proxied request costs here and elsewhere. README.md says what is measured and how."""
