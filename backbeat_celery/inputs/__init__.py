"""Check what comes in, before anything is written."""
