"""Published scores, every knob fixed, and what makes two of them differ."""
