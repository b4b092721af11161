"""Two-stage supervised fine-tuning of the student (Sections 2 and 4.1 of the paper), with TRL.

``stages`` is what callers use; ``worker`` runs in a process of its own and is the only way to torch and TRL.
"""
