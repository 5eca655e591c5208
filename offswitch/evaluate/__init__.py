"""Does the switch hold, and does anything else change?"""
