"""The paper's experiments as a whole: what they found, as figures and as one page."""
