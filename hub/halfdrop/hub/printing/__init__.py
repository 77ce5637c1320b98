"""Files that a mill can print: what each is made of, how it is encoded, what proves it right. No broker, no store, no
loop: plain functions from fields or pixels to bytes. Start with `plan.py`."""
