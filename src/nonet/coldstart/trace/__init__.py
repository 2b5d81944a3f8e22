"""A trace on disk: tables (`schema`), reader and writer (`store`, `writer`), refused rows (`quarantine`).

`manifest` is what makes a folder a trace; `journal` holds what a conversion needs to go on where it was interrupted.
"""
