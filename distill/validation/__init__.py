"""What the student does with training rows it was never trained on: before, between and after the stages."""
