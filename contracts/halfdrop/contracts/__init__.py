"""What parts of Halfdrop say to each other: pattern specs, jobs, statuses, subjects and errors.

Nothing here opens a socket, reads a clock or imports anything but msgspec and the standard library.
"""
