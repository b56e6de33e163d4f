//! When a node works: as its owner says, and in its hours.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;

use super::hours::{Schedule, wall_clock_s};

/// The owner's word and the clock are looked at so often: a clock may be set, and a laptop sleep.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// What decides whether a node works.
pub struct Terms {
    /// The node's directory, where its owner's word is.
    pub directory: PathBuf,
    /// Its hours, if not all of the day.
    pub schedule: Option<Schedule>,
}

/// Why a node rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Its owner paused it.
    Paused,
    /// It works at other hours.
    Hours(Schedule),
}

impl Terms {
    /// Why the node is to rest now, if it is.
    pub fn rest(&self) -> Option<Rest> {
        self.rest_at(wall_clock_s())
    }

    fn rest_at(&self, now_s: u64) -> Option<Rest> {
        if zoo_home::is_paused(&self.directory) {
            return Some(Rest::Paused);
        }
        self.schedule.filter(|schedule| !schedule.is_open(now_s)).map(Rest::Hours)
    }

    /// Completes when the node is to rest.
    pub async fn ends(&self) -> Rest {
        loop {
            match self.rest() {
                Some(rest) => return rest,
                None => sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// Completes when the node is to work.
    pub async fn begins(&self) {
        while self.rest().is_some() {
            sleep(LOOK_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_rests_outside_of_its_hours_and_whenever_its_owner_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (directory, at) = (folder.path().to_owned(), |hour: u64| hour * 3600);
        let schedule = Schedule { hours: "9-17".parse().unwrap(), offset: "0".parse().unwrap() };
        let always = Terms { directory: directory.clone(), schedule: None };
        let daily = Terms { directory: directory.clone(), schedule: Some(schedule) };
        assert_eq!((always.rest_at(at(3)), daily.rest_at(at(10))), (None, None));
        assert_eq!(daily.rest_at(at(3)), Some(Rest::Hours(schedule)));
        zoo_home::pause(&directory).unwrap();
        for terms in [&always, &daily] {
            assert_eq!([3, 10].map(|hour| terms.rest_at(at(hour))), [Some(Rest::Paused); 2]);
        }
        zoo_home::resume(&directory).unwrap();
        assert_eq!((always.rest_at(at(3)), daily.rest_at(at(10))), (None, None));
    }
}
