"""SentiBench: 12 sentiment analysis tasks, two protocols, and the scores of a language model on them (Section 3)."""
