"""What trains: the loop, the teacher's cache, evaluation."""
