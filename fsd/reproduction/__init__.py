"""The paper's tables and figures: experiment files, their runs, and what is made of them."""
