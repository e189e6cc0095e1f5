//! The program as it is installed: every command against real stations, folders and faults.

mod alarms;
mod attacks;
mod audit;
mod backup;
mod commands;
mod damage;
mod diff;
mod office;
mod orders;
mod points;
mod recovery;
mod retention;
mod rollback;
mod scrub;
mod stations;
mod users;
mod users_back;
