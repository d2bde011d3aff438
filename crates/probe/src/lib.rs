//! aiox-probe
