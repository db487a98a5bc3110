//! Files that are away, for a moment or for good.

use super::super::owners::Kind;
use super::Desk;

impl Desk {
    /// The file was away for a moment and is back.
    pub(super) fn here_again(&mut self, file: &str) {
        self.keep_again(file);
        let touched = self.owners.miss(file, false);
        self.settle_all(touched);
    }

    /// The file is away; another one of its name may take over, but nothing is withdrawn yet.
    pub fn missing(&mut self, file: &str) {
        let touched = self.owners.miss(file, true);
        self.settle_all(touched);
    }

    /// The file is gone for good.
    pub fn gone(&mut self, file: &str) {
        if self.own_file_gone(file) {
            return;
        }
        self.problems.remove(file);
        self.last_good.drop(file, self.kept(file));
        self.unlink(file);
        self.named.remove(file);
        let mentions = self.records.remove(file).map(|record| record.mentions);
        let mut touched = self.owners.miss(file, false);
        touched.extend(self.owners.declare(file, Kind::Manifest, []));
        self.settle_all(touched);
        self.scripts.gone(file);
        if let Some(mentions) = mentions {
            self.claims_dropped(file, &mentions);
        }
    }

    /// Everything that was told is withdrawn (`plugd rm --missing` with no directory).
    pub fn withdraw_all(&mut self) {
        let files: Vec<String> = self.records.keys().cloned().collect();
        for file in files {
            self.gone(&file);
        }
    }
}
