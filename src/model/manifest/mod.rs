//! Manifests: text in, a [`Spec`](super::spec::Spec) or diagnostics with places and remedies out.
