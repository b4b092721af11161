"""Teacher generation: prompts in, one response or one failure record each out, in shards that survive a crash."""
