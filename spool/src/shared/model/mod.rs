//! A model of the workshop: other hands, crashes and failed calls between any two of its calls, on a disk that forgets.

mod disk;
mod hand;
mod late;
mod life;
mod moments;
mod pending;
mod power;
mod starts;
mod steps;
mod unsure;
