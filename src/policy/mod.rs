//! Pure judges: numbers in, verdict out. Floor 1.
