use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

#[test]
fn wg_index_collision_picks_another() {
    let mut table = IndexTable::new();
    let peers = [1, 2].map(|n| NodePublic::from_bytes([n; 32]));
    // The same seed draws the same index first.
    let [a, b] = peers.map(|peer| table.reserve(peer, &mut StdRng::seed_from_u64(1)));
    assert_ne!(a, b);
    assert_eq!(table.get(a).map(|slot| slot.peer), Some(peers[0]));
    assert_eq!(table.get(b).map(|slot| slot.peer), Some(peers[1]));
    table.release(a);
    assert!(table.get(a).is_none());
    assert_eq!(table.len(), 1);
}
