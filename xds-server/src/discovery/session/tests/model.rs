//! The engine against a model of a client.
