//! `state.db`: what outlives the keeper.
