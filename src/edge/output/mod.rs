//! Output of services: pipes to files by splice(2), rotation, index, reading back.
