"""From sources of user-generated text to the corpus: collect, clean, decontaminate, dedup (Section 4.1)."""
