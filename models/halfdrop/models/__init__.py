"""The house model and everything that turns plates into pixels, files' contours and words' meaning.

Nothing here talks to a network. torch appears only in the training code of `house`; an edge never imports it.
"""
