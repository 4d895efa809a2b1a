
//! Registry.
