"""The contract between Blackstart's processes, and what all sides share.

Invariant: nothing here imports another Blackstart package.
"""
