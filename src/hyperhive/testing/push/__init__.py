"""A stand-in of a push service: takes pushes as a browser vendor's does, checks them, and reads them as the browser."""
