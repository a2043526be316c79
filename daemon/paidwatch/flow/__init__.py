"""The arrows of the design, one module each, in the order of the data.

listen → intake → decide → activate | deliver; `alarm` is the one clock, `reconcile` the net below everything.
"""
