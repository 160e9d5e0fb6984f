//! Facts, expressions, rules, lists and limits: a decision with a reason and a trace.
