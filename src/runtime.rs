//! The loop: drains facts, stamps `now` once, decides, hands actions to the edges. Floor 7.
