"""What is asked, as text and ids: trigger, placements, look-alikes, suites."""
