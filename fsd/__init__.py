"""Feature structure distillation with centered kernel alignment (arXiv 2204.08922)."""
