"""The teacher memory M_T and the student memory M_S, and the k-means that makes M_T."""
