"""The vocabulary and the rules, pure: values in, values out, no effect of any kind."""
