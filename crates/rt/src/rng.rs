//! The operating system's randomness.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};

/// The operating system's random number generator. A system that has none cannot run this program.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRng;

impl TryRng for OsRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        if let Err(error) = getrandom::fill(dst) {
            // Going on would mean predictable keys.
            panic!("the operating system gives no randomness: {error}");
        }
        Ok(())
    }
}

impl TryCryptoRng for OsRng {}
