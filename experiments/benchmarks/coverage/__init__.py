"""Simulated studies with known truth: do the intervals and calls of a report hold?"""
