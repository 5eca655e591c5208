"""What is asked, as text and token ids: trigger, placements, look-alikes, suites."""
