"""From texts to the teacher's prompts: KnowDist, ICLDist and general tasks.

:func:`distill.prompting.build.build_prompts` is the stage; the other modules are its parts.
"""
