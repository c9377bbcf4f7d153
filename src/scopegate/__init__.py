"""scopegate: a reverse-proxy hardening gateway that stands in front of an unchanged web app."""

__version__ = "0.1.0"
