"""What the teacher's answers are worth: its labels against known ones, and its analyses before a judge."""
