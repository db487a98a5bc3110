//! Status files: written beside the manifests by rename, coalesced, never fsynced.
