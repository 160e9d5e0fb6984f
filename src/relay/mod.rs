//! Outbound decisions: routes, backend pools, health, retry times, bounces. Decides, never dials.
